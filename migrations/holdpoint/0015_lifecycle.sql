-- 0015: kept for lifecycle.

set local role holdpoint_owner;
reset role;
