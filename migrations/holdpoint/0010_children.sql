-- 0010: kept for children.

set local role holdpoint_owner;
reset role;
