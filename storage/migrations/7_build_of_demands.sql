-- Which program a gateway is: workers of another are of no use to it.
alter table worker_demands add column build text not null default '';
