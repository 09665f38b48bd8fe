-- What a project may spend in a day or a month: all of it, somebody in it, or what has a label.
create table budgets (
    project text not null references projects (id),
    scope text not null,
    period text not null check (period in ('day', 'month')),
    amount text not null,
    warn_percent bigint not null,
    primary key (project, scope, period)
);
