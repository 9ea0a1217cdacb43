//! Reading ahead: while the device computes, the next part is decoded.

use crate::{Error, Result};
use std::sync::mpsc::sync_channel;
use std::thread::Builder;

/// Hands every item with what `read` made of it to `take`, in order; `read` runs on a thread of its
/// own, two items ahead at most. So do `items`, which may come one by one.
///
/// # Errors
/// The first of `read` or `take`, in the order of the items; later items are not taken.
pub fn read_ahead<T: Send, R: Send>(
    items: impl IntoIterator<Item = T, IntoIter: Send>,
    read: impl Fn(&T) -> Result<R> + Sync,
    mut take: impl FnMut(T, R) -> Result<()>,
) -> Result<()> {
    let (send, receive) = sync_channel(1);
    let mut items = items.into_iter();
    std::thread::scope(|scope| {
        let read = &read;
        let all = move || {
            // Nobody receives any more when one failed.
            items.try_for_each(|item| {
                let made = read(&item);
                send.send((item, made)).map_err(drop)
            })
        };
        let reader = Builder::new().name("reader".into());
        reader
            .spawn_scoped(scope, all)
            .map_err(|e| Error::failed(format!("no thread to read ahead: {e}")))?;
        receive
            .into_iter()
            .try_for_each(|(item, made)| take(item, made?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_next_is_read_while_one_is_taken() {
        let items: Vec<usize> = (0..5).collect();
        let (ready, read) = sync_channel(items.len());
        let next = Mutex::new(read);
        let mut taken = Vec::new();
        read_ahead(
            &items,
            |&&i| Ok(ready.send(i).map(|()| 10 * i).unwrap()),
            |&i, made| {
                // Blocks for ever where reading waits for this to end.
                (i < 4).then(|| next.lock().unwrap().recv().unwrap());
                taken.push((i, made));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(
            taken,
            items.iter().map(|&i| (i, 10 * i)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_first_error_ends_it_and_reading_stops() {
        let items: Vec<usize> = (0..100).collect();
        let count = AtomicUsize::new(0);
        let mut taken = 0;
        let read = |&&i: &&usize| {
            count.fetch_add(1, Ordering::SeqCst);
            match i {
                3 => Err(Error::failed("three")),
                _ => Ok(i),
            }
        };
        let take = |_: &usize, _| {
            taken += 1;
            Ok(())
        };
        let error = read_ahead(&items, read, take).unwrap_err();
        assert_eq!((error.to_string().as_str(), taken), ("three", 3));
        assert!(count.load(Ordering::SeqCst) <= 6, "{count:?}");
    }
}
