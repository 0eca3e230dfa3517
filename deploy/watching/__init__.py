"""What a Grafana and a Prometheus are given to watch Laurel with."""
