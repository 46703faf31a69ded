"""What an operator and a client see: real processes of the command, on real servers."""
