"""What every process of ours needs: its log, lines that decide nothing, threads, garbage collection, errors of its event loop."""
