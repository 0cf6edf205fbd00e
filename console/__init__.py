"""How people see and steer it: the command `persona-sync` and the local stack."""
