-- 0013: kept for gates.

set local role holdpoint_owner;
reset role;
