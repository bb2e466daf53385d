"""Networks only: no loss, no optimizer, no logging inside."""
