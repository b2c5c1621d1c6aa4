-- 0016: kept for sweeps.

set local role holdpoint_owner;
reset role;
