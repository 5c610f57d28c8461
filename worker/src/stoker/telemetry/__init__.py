"""Telemetry: metrics, traces, logs."""
