"""How money leaves: policy, signing order, resending, evidence. The one room where a payment is decided and sent."""
