"""The `cloud-mirror` command: configuration, logs, and the choice of a shell."""
