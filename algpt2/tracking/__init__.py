"""What a run tells while it trains and after: log lines, metrics, sinks, report, comparison."""
