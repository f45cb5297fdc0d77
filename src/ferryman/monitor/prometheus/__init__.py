"""Give rules for Prometheus, tests of them, and a dashboard for Grafana, from a contract."""
