"""Access to GitHub: clients, protocols and addresses. The package uses neither the database nor the detector."""
