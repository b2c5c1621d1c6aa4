-- 0014: kept for breakers.

set local role holdpoint_owner;
reset role;
