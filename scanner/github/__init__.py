"""GitHub as it is spoken to: clients, protocols, addresses. Knows no database and no detection."""
