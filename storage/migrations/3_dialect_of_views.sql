-- A view keeps the SQL dialect that its query is written in. Whoever does not know of dialects writes the generic one.
alter table relations add column view_dialect text not null default 'generic';
