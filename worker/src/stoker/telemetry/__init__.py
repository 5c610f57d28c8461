"""What Stoker tells of itself: metrics, traces, logs."""
