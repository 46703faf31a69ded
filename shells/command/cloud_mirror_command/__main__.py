"""`python -m cloud_mirror_command` is `cloud-mirror`."""

from cloud_mirror_command.main import main

main()
