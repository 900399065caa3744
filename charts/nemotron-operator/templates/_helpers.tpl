{{- define "nemotron.name" -}}
{{- if contains "nemotron-operator" .Release.Name -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-nemotron-operator" .Release.Name | trunc 50 | trimSuffix "-" }}{{- end -}}
{{- end }}

{{- define "nemotron.selector" -}}
app.kubernetes.io/name: nemotron-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "nemotron.labels" -}}
{{ include "nemotron.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "nemotron.image" -}}
{{- if .Values.image.digest -}}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end -}}
{{- end }}

{{- define "nemotron.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "nemotron.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What the operator may do, the same in one namespace and in all. No right on Secrets. */}}
{{- define "nemotron.rules" -}}
- apiGroups: [serving.nemotron.dev]
  resources: [nemotrondeployments]
  verbs: [get, list, watch]
- apiGroups: [serving.nemotron.dev]
  resources: [nemotronartifacts]
  verbs: [get, list, watch, create, delete]
- apiGroups: [serving.nemotron.dev]
  resources: [nemotrondeployments/status, nemotronartifacts/status]
  verbs: [patch]
# Owner references name these objects' owners; clusters that check that ask for this right.
- apiGroups: [serving.nemotron.dev]
  resources: [nemotrondeployments/finalizers, nemotronartifacts/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [apps]
  resources: [deployments, controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
