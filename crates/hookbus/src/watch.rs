//! Files that are followed: told of once their content has changed and stays as it is.
//!
//! They are looked at again and again instead of being watched by the system: a path may lead over links that are swapped,
//! as ConfigMaps and Kubernetes secrets are, and over file systems that tell of nothing.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    fs,
    hash::BuildHasher as _,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

/// How often files are looked at. A change is believed when it looks the same twice in a row.
const LOOK: Duration = Duration::from_millis(500);
/// A file that was written to so recently may be written to again without its time changing.
const FRESH: Duration = Duration::from_secs(3);
/// The most of a file that is compared.
const MOST: u64 = 16 << 20;

/// The files, and how they looked.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    files: BTreeMap<PathBuf, File>,
    hasher: RandomState,
}

#[derive(Debug)]
struct File {
    /// What is known to everybody.
    told: Content,
    /// How it looked the last time.
    seen: Content,
    stamp: Option<Stamp>,
}

/// What a file holds: by a keyed hash, as it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Is(u64),
    Unreadable(io::ErrorKind),
}

/// By this it is seen without reading that a file is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    length: u64,
    changed: (i64, i64),
    written: (i64, i64),
}

impl Watch {
    /// Follows these files from now on, and no others. What is known of those that stay is kept; a new one counts as told.
    pub(crate) fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut before = std::mem::take(&mut self.files);
        for path in files {
            let file = before.remove(&path).unwrap_or_else(|| {
                let (content, stamp) = read(&path, &self.hasher);
                File { told: content, seen: content, stamp }
            });
            self.files.insert(path, file);
        }
    }

    /// However they look now, everybody is about to know it.
    pub(crate) fn told(&mut self) {
        for (path, file) in &mut self.files {
            let (content, stamp) = read(path, &self.hasher);
            *file = File { told: content, seen: content, stamp };
        }
    }

    /// Waits until the content of one has changed and stays so; which ones. May be cancelled, and then tells later.
    pub(crate) async fn changed(&mut self) -> Vec<PathBuf> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.tick().await;
        loop {
            look.tick().await;
            let changed = self.look().await;
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    async fn look(&mut self) -> Vec<PathBuf> {
        let stamps: Vec<_> =
            self.files.iter().map(|(path, file)| (path.clone(), file.stamp, file.seen)).collect();
        let hasher = self.hasher.clone();
        let now = SystemTime::now();
        let looking = spawn_blocking(move || {
            let look = |(path, stamp, seen): (PathBuf, Option<Stamp>, Content)| {
                let now = self::stamp(&path).ok().filter(|stamp| !stamp.is_fresh(now));
                let (content, stamp) = match (now, stamp) {
                    (Some(now), Some(before)) if now == before => (seen, Some(now)),
                    _ => read(&path, &hasher),
                };
                (path, content, stamp)
            };
            stamps.into_iter().map(look).collect::<Vec<_>>()
        });
        let mut changed = Vec::new();
        for (path, content, stamp) in looking.await.unwrap_or_default() {
            let Some(file) = self.files.get_mut(&path) else { continue };
            let stays = file.seen == content;
            (file.seen, file.stamp) = (content, stamp);
            if stays && file.told != content {
                file.told = content;
                changed.push(path);
            }
        }
        changed
    }
}

impl Stamp {
    fn is_fresh(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let latest = self.written.0.max(self.changed.0);
        // Also one from the future.
        u64::try_from(latest).is_ok_and(|latest| latest.saturating_add(FRESH.as_secs()) >= now)
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    // Follows links: what counts is what would be read.
    let found = fs::metadata(path)?;
    // A pipe would be waited for, and what it held is gone.
    if !found.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(Stamp {
        file: (found.dev(), found.ino()),
        length: found.len(),
        changed: (found.ctime(), found.ctime_nsec()),
        written: (found.mtime(), found.mtime_nsec()),
    })
}

fn read(path: &Path, hasher: &RandomState) -> (Content, Option<Stamp>) {
    let content = || -> io::Result<_> {
        let stamp = stamp(path)?;
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
        Ok((hasher.hash_one(bytes), stamp))
    };
    match content() {
        Ok((hash, stamp)) => (Content::Is(hash), Some(stamp)),
        Err(error) => (Content::Unreadable(error.kind()), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn twice(watch: &mut Watch) -> Vec<PathBuf> {
        let mut changed = watch.look().await;
        changed.extend(watch.look().await);
        changed
    }

    #[tokio::test]
    async fn a_change_is_told_once_and_when_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "one").unwrap();
        let mut watch = Watch::default();
        watch.follow([path.clone()]);
        assert!(twice(&mut watch).await.is_empty());
        // The same length, at about the same time.
        fs::write(&path, "two").unwrap();
        assert!(watch.look().await.is_empty(), "it may still be written");
        fs::write(&path, "six").unwrap();
        assert!(watch.look().await.is_empty(), "it was");
        assert_eq!(watch.look().await, std::slice::from_ref(&path));
        assert!(twice(&mut watch).await.is_empty());
        fs::write(&path, "six").unwrap();
        assert!(twice(&mut watch).await.is_empty(), "it holds what it held");
    }

    #[tokio::test]
    async fn a_file_that_goes_or_comes_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let mut watch = Watch::default();
        watch.follow([path.clone()]);
        fs::write(&path, "one").unwrap();
        assert_eq!(twice(&mut watch).await, std::slice::from_ref(&path));
        fs::remove_file(&path).unwrap();
        assert_eq!(twice(&mut watch).await, [path]);
    }

    #[tokio::test]
    async fn a_link_that_is_swapped_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("a", "one"), ("b", "two")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("hookbus.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("a", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/hookbus.toml", at("hookbus.toml")).unwrap();
        let mut watch = Watch::default();
        watch.follow([at("hookbus.toml")]);
        std::os::unix::fs::symlink("b", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_eq!(twice(&mut watch).await, [at("hookbus.toml")]);
    }

    #[tokio::test]
    async fn what_everybody_knows_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "one").unwrap();
        let mut watch = Watch::default();
        watch.follow([path.clone()]);
        fs::write(&path, "two").unwrap();
        watch.told();
        assert!(twice(&mut watch).await.is_empty());
        fs::write(&path, "three").unwrap();
        assert_eq!(twice(&mut watch).await, [path]);
    }

    #[tokio::test]
    async fn what_is_followed_still_is_not_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        let mut watch = Watch::default();
        watch.follow([one.clone()]);
        fs::write(&one, "3").unwrap();
        watch.follow([one.clone(), two]);
        assert_eq!(twice(&mut watch).await, [one], "it changed before the other was followed");
    }
}
