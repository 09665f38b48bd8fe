-- How many workers the queries of each gateway wait for.
create table worker_demands (
    owner text primary key,
    wanted bigint not null,
    until bigint not null
);
