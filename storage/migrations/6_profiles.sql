-- How the plan of a query ran, as JSON; kept as long as results are.
alter table queries add column profile text;
create index queries_profiles on queries (ended_at) where profile is not null;
