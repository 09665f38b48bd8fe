-- What was done stays done.

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log never changes';
end;
$$;

create trigger audit_never_changes before update or delete on audit
for each row execute function refuse_audit_change();

create trigger audit_never_goes before truncate on audit
for each statement execute function refuse_audit_change();
