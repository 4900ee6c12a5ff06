-- What costs a commit a page for each run or key is written by the flushes of the statistics: the
-- journal's index by run, and the parameters and tags of new runs.

create table journal_run (
    run bigint not null,
    journal bigint not null,
    primary key (run, journal)
){clustered};

insert into journal_run (run, journal)
select run, id from journal where id <= coalesce((select value from meta where name = 'counted'), 0) order by run, id;

drop index journal_by_run;

create view journal_of as
select x.run as run, x.journal as id, j.points as points, j.payload as payload
from journal_run x cross join journal j where j.id = x.journal
union all
select run, id, points, payload from journal
where id > coalesce((select value from meta where name = 'counted'), 0);

create table fresh_param (
    run bigint not null,
    key bigint not null,
    value text not null,
    number bigint,
    primary key (run, key)
){clustered};

create table fresh_tag (
    run bigint not null,
    key bigint not null,
    value text not null,
    primary key (run, key)
){clustered};
