//! A local directory as an object store whose acknowledged writes survive a power cut.
//!
//! `LocalFileSystem` never syncs. Here a put syncs the bytes before they get their name and the directories before it
//! is acknowledged, so a name never leads to half an object. A multipart upload gets its name first and is synced
//! before it is acknowledged: nothing refers to a data file whose upload was not acknowledged. Deletes are not synced;
//! an object that comes back is deleted again.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::clock::Timestamp;

/// A directory whose acknowledged writes are on the disk.
#[derive(Debug)]
pub(super) struct DurableDisk {
    files: LocalFileSystem,
    root: PathBuf,
}

impl DurableDisk {
    /// Opens `directory`, creating it and its parents if need be.
    pub(super) fn open(directory: &FilePath) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let root = std::fs::canonicalize(directory)?;
        for parent in root.ancestors() {
            // A parent we may not open is one we did not create.
            if let Ok(parent) = File::open(parent) {
                let _ = parent.sync_all();
            }
        }
        let files = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        Ok(Self { files, root })
    }

    /// The directory, without links.
    pub(super) fn root(&self) -> &FilePath {
        &self.root
    }

    /// Removes drafts that nobody has written to since `older_than`, and says how many.
    pub(super) async fn remove_drafts(&self, older_than: Timestamp) -> Result<u64> {
        let root = self.root.clone();
        blocking(move || remove_drafts(&root, older_than).map_err(|error| failed(&root, error))).await
    }

    /// Puts what is at `location` and its name on the disk.
    async fn sync(&self, location: &Path) -> Result<()> {
        let (root, path) = (self.root.clone(), self.files.path_to_filesystem(location)?);
        blocking(move || sync_file_and_directories(&root, &path).map_err(|error| failed(&path, error))).await
    }
}

impl fmt::Display for DurableDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableDisk({})", self.root.display())
    }
}

/// Every object store lists by name, and readers of a Delta log count on it; a disk lists as it likes.
fn in_order(files: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let sorted = async move {
        let mut files: Vec<ObjectMeta> = files.try_collect().await?;
        files.sort_by(|a, b| a.location.cmp(&b.location));
        Ok::<_, object_store::Error>(stream::iter(files.into_iter().map(Ok)))
    };
    stream::once(sorted).try_flatten().boxed()
}

#[async_trait]
impl ObjectStore for DurableDisk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if matches!(options.mode, PutMode::Update(_)) || !options.attributes.is_empty() {
            // It says what it cannot do.
            return self.files.put_opts(location, payload, options).await;
        }
        let (root, path) = (self.root.clone(), self.files.path_to_filesystem(location)?);
        blocking(move || match place(&root, &path, &payload, &options.mode) {
            Ok(()) => Ok(PutResult {
                e_tag: None,
                version: None,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::AlreadyExists {
                path: path.display().to_string(),
                source: error.into(),
            }),
            Err(error) => Err(failed(&path, error)),
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.files.put_multipart_opts(location, options).await?;
        let path = self.files.path_to_filesystem(location)?;
        Ok(Box::new(DurableUpload {
            upload,
            root: self.root.clone(),
            path,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        in_order(self.files.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        in_order(self.files.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await?;
        self.sync(to).await
    }
}

/// An upload that is complete when it is on the disk.
#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    root: PathBuf,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.upload.complete().await?;
        let (root, path) = (self.root.clone(), self.path.clone());
        blocking(move || sync_file_and_directories(&root, &path).map_err(|error| failed(&path, error))).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

/// Bytes first, then the name, then the directories that hold the name.
fn place(root: &FilePath, path: &FilePath, payload: &PutPayload, mode: &PutMode) -> io::Result<()> {
    let (mut file, staged) = stage(path)?;
    let placed = payload
        .iter()
        .try_for_each(|bytes| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .and_then(|()| match mode {
            // A link fails when the name exists: of two writers exactly one succeeds.
            PutMode::Create => std::fs::hard_link(&staged, path),
            _ => std::fs::rename(&staged, path),
        });
    if placed.is_err() || matches!(mode, PutMode::Create) {
        let _ = std::fs::remove_file(&staged);
    }
    placed?;
    sync_directories(root, path)
}

/// A new file beside `path`. Listings skip a name that ends in `#` and digits.
fn stage(path: &FilePath) -> io::Result<(File, PathBuf)> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!("#{}", rand::random::<u64>()));
    let staged = PathBuf::from(staged);

    let create = || OpenOptions::new().write(true).create_new(true).open(&staged);
    let file = match create() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(path.parent().unwrap_or(FilePath::new("/")))?;
            create()?
        }
        other => other?,
    };
    Ok((file, staged))
}

/// A draft is a file whose name ends in `#` and digits: ours, and those of the library's multipart uploads.
fn remove_drafts(directory: &FilePath, older_than: Timestamp) -> io::Result<u64> {
    let mut removed = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // What somebody else removes meanwhile is no draft of ours any more.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            removed += match remove_drafts(&entry.path(), older_than) {
                Err(error) if error.kind() == ErrorKind::NotFound => 0,
                counted => counted?,
            };
            continue;
        }
        let is_old = DateTime::<Utc>::from(metadata.modified()?).timestamp_micros() < older_than.micros();
        if is_old && is_draft(&entry.file_name().to_string_lossy()) && std::fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_draft(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn sync_file_and_directories(root: &FilePath, path: &FilePath) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    sync_directories(root, path)
}

/// Syncs every directory from the one that holds `path` up to `root`: any of them may be new. A directory without
/// changes costs next to nothing.
fn sync_directories(root: &FilePath, path: &FilePath) -> io::Result<()> {
    for directory in path
        .ancestors()
        .skip(1)
        .take_while(|directory| directory.starts_with(root))
    {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn failed(path: &FilePath, error: io::Error) -> Error {
    Error::Generic {
        store: "local directory",
        source: format!("{}: {error}", path.display()).into(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}
