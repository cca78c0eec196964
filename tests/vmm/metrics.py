"""The metrics of the stand-in, as Firecracker 1.7 writes them: a line of JSON, in which each counter is what was counted
since the line before, for each drive and interface and for all of them."""
import json
import os
import time

LATENCY = {"min_us": 4, "max_us": 90, "sum_us": 400}
BLOCK = {"activate_fails": 0, "cfg_fails": 0, "no_avail_buffer": 0, "event_fails": 0, "execute_fails": 0,
         "invalid_reqs_count": 0, "flush_count": 2, "queue_event_count": 40, "rate_limiter_event_count": 0, "update_count": 0,
         "update_fails": 0, "read_bytes": 4096, "write_bytes": 512, "read_count": 8, "write_count": 1, "read_agg": LATENCY,
         "write_agg": LATENCY, "rate_limiter_throttled_events": 0, "io_engine_throttled_events": 0, "remaining_reqs_count": 0}
NET = {"activate_fails": 0, "cfg_fails": 0, "mac_address_updates": 0, "no_rx_avail_buffer": 0, "no_tx_avail_buffer": 0,
       "event_fails": 0, "rx_queue_event_count": 5, "rx_event_rate_limiter_count": 0, "rx_partial_writes": 0,
       "rx_rate_limiter_throttled": 0, "rx_tap_event_count": 7, "rx_bytes_count": 700, "rx_packets_count": 7, "rx_fails": 0,
       "rx_count": 7, "tap_read_fails": 0, "tap_write_fails": 0, "tap_write_agg": LATENCY, "tx_bytes_count": 300,
       "tx_malformed_frames": 0, "tx_fails": 0, "tx_count": 3, "tx_packets_count": 3, "tx_partial_reads": 0,
       "tx_queue_event_count": 3, "tx_rate_limiter_event_count": 0, "tx_rate_limiter_throttled": 0, "tx_spoofed_mac_count": 1,
       "tx_remaining_reqs_count": 0}
REST = {
    "api_server": {"process_startup_time_us": 12000, "process_startup_time_cpu_us": 8000, "sync_response_fails": 0,
                   "sync_vmm_send_timeout_count": 0},
    "balloon": {"activate_fails": 0, "inflate_count": 0, "stats_updates_count": 0, "stats_update_fails": 0, "deflate_count": 0,
                "event_fails": 0},
    "latencies_us": {"full_create_snapshot": 0, "diff_create_snapshot": 0, "load_snapshot": 0, "pause_vm": 0, "resume_vm": 0,
                     "vmm_full_create_snapshot": 0, "vmm_load_snapshot": 0, "vmm_pause_vm": 0, "vmm_resume_vm": 0},
    "logger": {"missed_metrics_count": 0, "metrics_fails": 0, "missed_log_count": 0, "log_fails": 0},
    "seccomp": {"num_faults": 0},
    "vcpu": {"exit_io_in": 11, "exit_io_out": 250, "exit_mmio_read": 90, "exit_mmio_write": 40, "failures": 0,
             "exit_io_in_agg": LATENCY, "exit_io_out_agg": LATENCY, "exit_mmio_read_agg": LATENCY,
             "exit_mmio_write_agg": LATENCY},
    "vmm": {"device_events": 9, "panic_count": 0},
    "uart": {"error_count": 0, "missed_read_count": 0, "missed_write_count": 0, "read_count": 0, "write_count": 250,
             "flush_count": 0},
    "entropy": {"activate_fails": 0, "entropy_event_fails": 0, "entropy_event_count": 1, "entropy_bytes": 32},
}


def together(one, count):
    return {k: v if isinstance(v, dict) else v * count for k, v in one.items()}


class Metrics:
    def __init__(self, path):
        # As the real one opens it: a FIFO that nobody reads would take what fits into it, and then lose the rest.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def flush(self, drives, interfaces):
        line = {"utc_timestamp_ms": int(time.time() * 1000), **REST}
        line |= {f"block_{d}": BLOCK for d in drives} | {"block": together(BLOCK, len(drives))}
        line |= {f"net_{i}": NET for i in interfaces} | {"net": together(NET, len(interfaces))}
        try:
            os.write(self.fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        except BlockingIOError:
            pass
