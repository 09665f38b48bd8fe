//! What `\d` shows: the datasets and tables of the project, or what is behind one name.

use super::session::Session;
use crate::client::show::{self, Grid};
use crate::client::{self, TableLine};

impl Session {
    /// Every dataset with its tables.
    pub(super) async fn all_tables(&self) -> Result<Grid, client::Error> {
        let mut grid = table_grid();
        for dataset in self.client.datasets().await? {
            let tables = self.client.tables(&dataset).await?;
            if tables.is_empty() {
                grid.push([dataset, "dataset".to_owned(), String::new(), String::new()]);
            }
            push_tables(&mut grid, tables);
        }
        Ok(grid)
    }

    /// What is behind a name: a table's columns, or a dataset's tables.
    pub(super) async fn describe(&self, name: &str) -> Result<String, client::Error> {
        let (dataset, table) = match (name.split_once('.'), &self.dataset) {
            (Some((dataset, table)), _) => (dataset, table),
            (None, Some(dataset)) if !self.client.datasets().await?.iter().any(|dataset| dataset == name) => {
                (dataset.as_str(), name)
            }
            (None, _) => {
                let mut grid = table_grid();
                push_tables(&mut grid, self.client.tables(name).await?);
                return Ok(grid.to_string());
            }
        };
        let table = self.client.table(dataset, table).await?;
        let mut grid = Grid::new().left("column").left("type").left("null");
        for column in table.schema {
            grid.push([
                column.name,
                column.data_type,
                if column.nullable { "" } else { "not null" }.to_owned(),
            ]);
        }
        let keys = table.keys.iter().map(|key| {
            let kind = if key.primary { "primary key" } else { "unique" };
            format!("{kind} ({})", key.columns.join(", "))
        });
        let facts = [
            Some(table.kind),
            table.rows.map(show::rows),
            table.bytes.map(|bytes| format!("{} stored", show::bytes(bytes))),
            table.files.map(show::files),
            table.version.map(|version| format!("version {version}")),
            table.location,
        ];
        let facts = facts.into_iter().flatten().filter(|fact| !fact.is_empty());
        let facts: Vec<_> = facts.chain(keys).collect();
        Ok(format!("{grid}{}\n", show::line(&facts.join(", "))))
    }

    /// Names a person may want to have completed: datasets, and tables with and without their dataset.
    pub(super) async fn names(&self) -> Result<Vec<String>, client::Error> {
        let mut names = Vec::new();
        for dataset in self.client.datasets().await? {
            for table in self.client.tables(&dataset).await? {
                if let Some((within, short)) = table.name.split_once('.')
                    && self.dataset.as_deref() == Some(within)
                {
                    names.push(short.to_owned());
                }
                names.push(table.name);
            }
            names.push(dataset);
        }
        Ok(names)
    }
}

fn table_grid() -> Grid {
    Grid::new().left("name").left("kind").right("rows").right("stored")
}

fn push_tables(grid: &mut Grid, tables: Vec<TableLine>) {
    for table in tables {
        let rows = table.rows.map(show::count).unwrap_or_default();
        grid.push([
            table.name,
            table.kind,
            rows,
            table.bytes.map(show::bytes).unwrap_or_default(),
        ]);
    }
}
