-- 0011: kept for arms.

set local role holdpoint_owner;
reset role;
