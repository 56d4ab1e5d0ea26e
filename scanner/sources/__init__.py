"""What was polled becomes jobs and candidates, in one transaction with the cursor."""
