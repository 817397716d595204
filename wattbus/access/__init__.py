"""Who may say and hear what on the brokers: one table, and what each broker makes of it."""
