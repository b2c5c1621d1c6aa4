-- 0012: kept for undo.

set local role holdpoint_owner;
reset role;
