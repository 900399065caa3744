"""Spell every name that others may rely on, once: API group, labels, annotations, field manager, conditions."""

GROUP = "serving.nemotron.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DEPLOYMENT_KIND = "NemotronDeployment"
DEPLOYMENT_PLURAL = "nemotrondeployments"
ARTIFACT_KIND = "NemotronArtifact"
ARTIFACT_PLURAL = "nemotronartifacts"

FIELD_MANAGER = "nemotron-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"

# Selected by Services and by `status.selector`: API, never renamed.
NAME_LABEL = f"{GROUP}/name"
COMPONENT_LABEL = f"{GROUP}/component"
REVISION_LABEL = f"{GROUP}/revision"
ARTIFACT_LABEL = f"{GROUP}/artifact"
SERVER = "server"
BUILDER = "builder"

APPLIED_HASH = f"{GROUP}/applied-hash"
"""Hash of the manifest as it was last applied; with the drift check it decides whether an apply can be skipped."""

ACCEPTED = "Accepted"
WEIGHTS_READY = "WeightsReady"
ENGINE_READY = "EngineReady"
CAPACITY_AVAILABLE = "CapacityAvailable"
AVAILABLE = "Available"
PROGRESSING = "Progressing"
SCALING_ACTIVE = "ScalingActive"
READY = "Ready"

GRPC_PORT, METRICS_PORT, HEALTH_PORT = 8001, 8002, 8080
TOKEN_PATH = "/token"
"""Of the health port: generates one token through the replica's own gRPC port."""

STORE_MOUNT = "/store"
SOURCE_MOUNT = "/source"
CONFIG_MOUNT = "/etc/nemotron"
