"""Access to GitHub: clients, protocols and addresses. It uses neither the database nor detection."""
