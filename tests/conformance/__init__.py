"""What every shell of Cloud Mirror must show to a client and to an operator; see README.md here."""
