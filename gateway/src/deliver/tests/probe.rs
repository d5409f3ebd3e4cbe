//! A tenant that does not get through is found out to get through again, whoever takes the slots meanwhile.

use std::collections::HashMap;

use super::*;

/// A destination with one slot, of which each tenant's requests meet with something else.
#[derive(Clone, Default)]
struct OneSlot(Rc<RefCell<HashMap<String, Meets>>>, Rc<RefCell<Vec<String>>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meets {
    Refusal,
    /// An answer after a long time.
    Silence,
    Success,
}

impl OneSlot {
    fn set(&self, tenant: &str, meets: Meets) {
        self.0.borrow_mut().insert(tenant.to_owned(), meets);
    }

    fn stored(&self, tenant: &str) -> usize {
        self.1.borrow().iter().filter(|stored| *stored == tenant).count()
    }
}

impl Destination for OneSlot {
    fn terms(&self) -> Terms {
        Terms {
            batch_bytes: 1 << 20,
            batch_raw_bytes: 1 << 20,
            batch_age: Duration::from_millis(500),
            concurrency: 1,
            ordered: false,
            mixes_encodings: false,
            trailing: Trailing::Final,
        }
    }

    async fn send(&self, batch: &Batch, _: Mode) -> Outcome {
        let tenant = batch.tenant.to_string();
        if self.0.borrow().get(&tenant) == Some(&Meets::Silence) {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        if self.0.borrow().get(&tenant) == Some(&Meets::Refusal) {
            return Outcome::Hold(Refusal::new("401"));
        }
        self.1.borrow_mut().extend(batch.entries.iter().map(|_| tenant.clone()));
        Outcome::Delivered(Receipt { stored: batch.records, rejected: Vec::new() })
    }

    async fn count(&self, _: &str, _: &[Asked]) -> Result<Vec<u64>, Refusal> {
        unreachable!("nothing trails")
    }

    fn state(&self) -> Vec<u8> {
        Vec::new()
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_tenant_whose_probe_meets_no_free_slot_is_probed_later() {
    let (rig, store) = (Rig::new(), OneSlot::default());
    let journal = rig.open();
    store.set("a", Meets::Refusal);
    append(&journal, (1..=5).map(|number| entry("a", number)).collect()).await;
    rig.run(&journal, |_| store.clone(), async {
        until("it is held", || rig.metric("held{destination=\"logs\",tenant=\"a\"}") == 1).await;
        // The one slot is taken when the probe is due, and for long enough that housekeeping comes by.
        store.set("b", Meets::Silence);
        append(&journal, vec![entry("b", 6)]).await;
        until("the other one is through", || store.stored("b") == 1).await;
        store.set("a", Meets::Success);
        until("what was held is there", || store.stored("a") == 5).await;
        until("that is told", || rig.metric("undecided_entries{destination=\"logs\"}") == 0).await;
    })
    .await;
    rig.books_balance();
}
