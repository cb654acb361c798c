"""The documents over one store: scopes in memory, the verbs, and their history."""
