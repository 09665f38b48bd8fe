-- What was done stays done.

create trigger audit_never_changes before update on audit
begin
    select raise(abort, 'the audit log never changes');
end;

create trigger audit_never_goes before delete on audit
begin
    select raise(abort, 'the audit log never changes');
end;
