//! Turns dice into orders and what happens to them: placed, paid, shipped.

use std::hash::{BuildHasher, Hasher, RandomState};

use serde_json::{Value, json};

/// The orders that are under way, and the dice that decide what happens next.
#[derive(Debug)]
pub(super) struct Desk {
    dice: Dice,
    open: Vec<Order>,
    next_order: u64,
}

/// An order.
#[derive(Clone, Debug)]
pub(super) struct Order {
    number: u64,
    customer: &'static str,
    items: Vec<Item>,
    stage: Stage,
}

#[derive(Clone, Debug)]
struct Item {
    sku: &'static str,
    quantity: u64,
    price_cents: u64,
}

/// What has happened to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Placed,
    Paid,
    Shipped,
}

/// A small generator (xorshift64*); its numbers need not be good.
#[derive(Debug)]
struct Dice(u64);

/// Orders under way at most, so that memory has a limit.
const OPEN_MAX: usize = 200;
/// Below this, new orders come first.
const OPEN_MIN: usize = 10;

const CUSTOMERS: [&str; 12] = [
    "Ada Lovelace",
    "Alan Turing",
    "Barbara Liskov",
    "Donald Knuth",
    "Edgar Codd",
    "Edsger Dijkstra",
    "Frances Allen",
    "Grace Hopper",
    "Jim Gray",
    "Katherine Johnson",
    "Leslie Lamport",
    "Margaret Hamilton",
];

/// Goods and their prices in cents.
const GOODS: [(&str, u64); 8] = [
    ("coffee-beans-1kg", 1890),
    ("espresso-cup", 750),
    ("filter-paper-100", 420),
    ("grinder-hand", 8900),
    ("kettle-gooseneck", 6450),
    ("milk-jug", 1995),
    ("scale-0.1g", 3490),
    ("tea-earl-grey", 640),
];

// === impl Desk ===

impl Desk {
    pub(super) fn new() -> Self {
        Self { dice: Dice(RandomState::new().build_hasher().finish() | 1), open: Vec::new(), next_order: 1001 }
    }

    /// How many rows the next transaction writes: mostly one.
    pub(super) fn size(&mut self) -> usize {
        [1, 1, 1, 1, 2, 2, 3, 5][self.dice.below(8)]
    }

    /// Whether the next transaction is rolled back: one of fifty.
    pub(super) fn changes_its_mind(&mut self) -> bool {
        self.dice.below(50) == 0
    }

    /// So many orders, each as it is after its next step. They are away from the desk until [`Desk::settle`].
    pub(super) fn plan(&mut self, size: usize) -> Vec<Order> {
        (0..size).map(|_| self.step()).collect()
    }

    /// Takes planned orders back: as they are now, or as they were before when their transaction was rolled back.
    pub(super) fn settle(&mut self, orders: Vec<Order>, is_committed: bool) {
        for mut order in orders {
            let before = match order.stage {
                Stage::Placed => None,
                Stage::Paid => Some(Stage::Placed),
                Stage::Shipped => Some(Stage::Paid),
            };
            match (is_committed, before) {
                (true, _) if order.stage == Stage::Shipped => {}
                (true, _) => self.open.push(order),
                (false, Some(before)) => {
                    order.stage = before;
                    self.open.push(order);
                }
                (false, None) => {}
            }
        }
    }

    fn step(&mut self) -> Order {
        let count = self.open.len();
        let is_new = count < OPEN_MIN || (count < OPEN_MAX && self.dice.below(3) == 0);
        if is_new {
            return self.place();
        }
        let mut order = self.open.swap_remove(self.dice.below(count));
        order.stage = if order.stage == Stage::Placed { Stage::Paid } else { Stage::Shipped };
        order
    }

    fn place(&mut self) -> Order {
        let number = self.next_order;
        self.next_order += 1;
        let customer = CUSTOMERS[self.dice.below(CUSTOMERS.len())];
        let count = 1 + self.dice.below(3);
        let first = self.dice.below(GOODS.len());
        let item = |at| {
            let (sku, price_cents) = GOODS[(first + 3 * at) % GOODS.len()];
            Item { sku, quantity: 1 + (number + at as u64) % 3, price_cents }
        };
        Order { number, customer, items: (0..count).map(item).collect(), stage: Stage::Placed }
    }
}

// === impl Order ===

impl Order {
    /// The key of its events.
    pub(super) fn id(&self) -> String {
        format!("o-{}", self.number)
    }

    pub(super) fn customer(&self) -> &'static str {
        self.customer
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn total_cents(&self) -> u64 {
        self.items.iter().map(|item| item.quantity * item.price_cents).sum()
    }

    /// The event's payload.
    pub(super) fn payload(&self, run: &str, event: u64, sent_us: i64) -> Value {
        let euros = |cents: u64| cents as f64 / 100.0;
        let item = |item: &Item| json!({"sku": item.sku, "quantity": item.quantity, "price": euros(item.price_cents)});
        json!({
            "order": self.id(),
            "customer": self.customer,
            "items": self.items.iter().map(item).collect::<Vec<_>>(),
            "total": euros(self.total_cents()),
            "currency": "EUR",
            "run": run,
            "event": event,
            "sent_us": sent_us,
        })
    }
}

// === impl Stage ===

impl Stage {
    /// The type of the event.
    pub(super) fn event_type(self) -> &'static str {
        match self {
            Self::Placed => "OrderPlaced",
            Self::Paid => "OrderPaid",
            Self::Shipped => "OrderShipped",
        }
    }
}

// === impl Dice ===

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_order_goes_its_way_whatever_is_rolled_back() {
        let mut desk = Desk::new();
        let mut stages: HashMap<String, &str> = HashMap::new();
        let mut shipped = 0;
        for round in 0..5_000 {
            let size = desk.size();
            let orders = desk.plan(size);
            let is_committed = round % 7 != 0;
            for order in orders.iter().filter(|_| is_committed) {
                let before = stages.insert(order.id(), order.stage().event_type());
                let expected = match order.stage() {
                    Stage::Placed => None,
                    Stage::Paid => Some("OrderPlaced"),
                    Stage::Shipped => Some("OrderPaid"),
                };
                assert_eq!(before, expected, "{}", order.id());
                shipped += u32::from(order.stage() == Stage::Shipped);
            }
            desk.settle(orders, is_committed);
            assert!(desk.open.len() <= OPEN_MAX + 5);
        }
        assert!(shipped > 1_000, "{shipped}");
    }
}
