"""x402 on the wire: reads demands for payment, writes payments, signs. Knows no HTTP client, no ledger, no seller."""
