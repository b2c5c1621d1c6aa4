-- 0009: annexes: what few transitions bring, each to the functions of its feature.
--
-- A new kind is one line in annex(), and one in found_annex() where a claim must
-- know what became of it. Both are called only for runs that use the feature.

set local role holdpoint_owner;

-- Called by commit() for rows that the compare-and-set has changed, in the order in
-- which the transition names them, before the run is parked or let go.
create function holdpoint.annex(p_kind text, p_run bigint, p_rev int, p_visit int, p_state int,
	p_from_visit int, p_from_state int, p_doc jsonb, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	if p_kind in ('turn', 'limits') then
		return; -- read by commit() for all its runs at once, in the order of the locks: 0019
	end if;
	if p_kind = 'secrets' then -- 0017: no claim needs to know
		perform annex_secrets(p_run, p_doc, p_now);
		return;
	end if;
	update run_state set has_annex = true where run_id = p_run and not has_annex;
	case p_kind
		when 'arms' then perform annex_arms(p_run, p_visit, p_from_visit, p_doc, p_now); -- 0011
		when 'undo' then perform undo_annex(p_run, p_rev, p_state, p_from_visit, p_from_state, p_doc, p_now); -- 0012
		when 'sweep' then perform sweep_put(p_run, p_from_visit, p_doc, p_now); -- 0016
		when 'sweep_row' then perform sweep_row(p_run, p_from_visit, p_doc);
		when 'sweep_failure' then perform sweep_failure(p_run, p_from_visit, p_doc, p_now);
		when 'children' then perform annex_children(p_run, p_visit, p_from_visit, p_doc, p_now); -- 0010
		else raise exception using errcode = 'HP400',
			message = format('run %s brings an annex "%s", which nobody reads', p_run, p_kind);
	end case;
end $$;

-- For a claim: kind → what is known of it. Null: nothing.
create function holdpoint.found_annex(s holdpoint.run_state) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	-- nulls inside of them count: a row in hand has columns without a value
	return (select jsonb_object_agg(k, v) from (values
		('arms', found_arms(s)), -- 0011
		('undo', undo_found(s)), -- 0012
		('children', case when s.phase = 10 then found_children(s.run_id, s.visit) end), -- 0010
		('sweep', sweep_found(s)) -- 0016
	) x(k, v) where v is not null);
end $$;

reset role;
