"""List every metric the backend exports, as dashboards, gateways and the operator know them."""

_GAUGES = """
nemotron_waiting_requests nemotron_running_requests nemotron_active_requests nemotron_draining
nemotron_state_slots_total nemotron_state_slots_used nemotron_kv_pages_total nemotron_kv_pages_used
nemotron_prefill_backlog_tokens nemotron_last_step_seconds nemotron_heartbeat_seconds
nv_trt_llm_request_metrics nv_trt_llm_kv_cache_block_metrics nv_trt_llm_inflight_batcher_metrics
nv_trt_llm_general_metrics
"""
_COUNTERS = """
nemotron_steps_total nemotron_prompt_tokens_total nemotron_generated_tokens_total nemotron_requests_total
nemotron_request_failures_total nemotron_prefix_hit_tokens_total nemotron_drafted_tokens_total
nemotron_accepted_tokens_total nemotron_preemptions_total
"""
_HISTOGRAMS = """
nemotron_first_token_seconds nemotron_inter_token_seconds nemotron_step_seconds
nv_llm_input_token_len nv_llm_output_token_len
"""

NAMES = (
    {("GAUGE", name) for name in _GAUGES.split()}
    | {("COUNTER", name) for name in _COUNTERS.split()}
    | {("COUNTER", f"{name}_{part}") for name in _HISTOGRAMS.split() for part in ("bucket", "sum", "count")}
)
"""Kind and name. Histograms are exported as counters, which a scrape cannot tell from histograms."""
