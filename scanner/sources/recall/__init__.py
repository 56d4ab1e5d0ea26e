"""What sources miss, measured: every push that one of them sees is a mark for the others."""
