//! The few calls into librdkafka that rdkafka does not offer: topic handles, producing through them, flush, topic
//! administration.
#![expect(unsafe_code, reason = "librdkafka is C; every other file of this crate is free of it")]

use crate::producer::Client;
use rdkafka::client::{Client as AnyClient, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer;
use rdkafka_sys as sys;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

/// A topic of one client, found once and used for every record: a lookup by name walks a list.
pub(crate) struct TopicHandle {
    topic: NonNull<sys::rd_kafka_topic_t>,
    /// Keeps the client alive for as long as the handle: dropped after [`TopicHandle::drop`] has given the handle back.
    client: Arc<Client>,
}

/// One record without its topic and headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch; 0 = now.
    pub(crate) timestamp_ms: i64,
    /// `None` leaves it to the partitioner.
    pub(crate) partition: Option<i32>,
    /// Comes back with the delivery report.
    pub(crate) opaque: usize,
}

impl Parcel<'_> {
    /// Bytes of key and value.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

/// A topic that is to be created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewTopic<'a> {
    pub(crate) name: &'a str,
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i32,
    pub(crate) config: &'a [(&'a str, &'a str)],
}

/// What an administrative request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) message: String,
}

/// A topic's settings, or why they are not shown.
pub(crate) type Described = Result<HashMap<String, String>, Refused>;

// SAFETY: librdkafka's topic and client objects may be used from any thread at once (rdkafka.h, "Thread safety"); the handle
// holds no thread-bound state of its own, and the pointed-to object lives until `drop`.
unsafe impl Send for TopicHandle {}
// SAFETY: as above; every call through a shared reference takes librdkafka's own locks.
unsafe impl Sync for TopicHandle {}

// === impl TopicHandle ===

impl TopicHandle {
    /// The handle of that topic, with the topic-level settings of the client's configuration.
    pub(crate) fn new(client: &Arc<Client>, name: &str) -> Result<Self, RDKafkaErrorCode> {
        let name = CString::new(name).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        // SAFETY: the client pointer is valid while `client` is; the name is a NUL-terminated string that outlives the call
        // and is copied by it; a null configuration asks for a copy of the client's default one. The returned reference is
        // ours to give back.
        let topic = unsafe { sys::rd_kafka_topic_new(client.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or(RDKafkaErrorCode::InvalidTopic)?;
        Ok(Self { topic, client: Arc::clone(client) })
    }

    /// Hands one record to the client, which copies it.
    #[inline]
    pub(crate) fn produce<'a>(
        &self,
        parcel: &Parcel<'_>,
        headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<(), RDKafkaErrorCode> {
        use sys::rd_kafka_vtype_t as V;
        type U = sys::rd_kafka_vu_s__bindgen_ty_1;
        let mem = |bytes: Option<&[u8]>| sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: bytes.map_or(ptr::null_mut(), |bytes| bytes.as_ptr().cast_mut().cast()),
            size: bytes.map_or(0, <[u8]>::len),
        };
        let vu = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
        let list = if headers.len() == 0 { ptr::null_mut() } else { new_headers(headers)? };
        let vus = [
            vu(V::RD_KAFKA_VTYPE_RKT, U { rkt: self.topic.as_ptr() }),
            vu(V::RD_KAFKA_VTYPE_PARTITION, U { i32_: parcel.partition.unwrap_or(rdkafka::producer::PARTITION_UA) }),
            vu(V::RD_KAFKA_VTYPE_MSGFLAGS, U { i: sys::RD_KAFKA_MSG_F_COPY }),
            vu(V::RD_KAFKA_VTYPE_VALUE, U { mem: mem(parcel.value) }),
            vu(V::RD_KAFKA_VTYPE_KEY, U { mem: mem(parcel.key) }),
            vu(V::RD_KAFKA_VTYPE_OPAQUE, U { ptr: ptr::without_provenance_mut(parcel.opaque) }),
            vu(V::RD_KAFKA_VTYPE_TIMESTAMP, U { i64_: parcel.timestamp_ms }),
            vu(V::RD_KAFKA_VTYPE_HEADERS, U { headers: list }),
        ];
        // SAFETY: each element's union field is the one that its vtype names (rdkafka.h, RD_KAFKA_V_*). Key and value point
        // to borrowed bytes with their true length, read during the call only because of F_COPY; a null pointer stands for
        // Kafka's null and an empty slice's pointer is never null. The topic belongs to this client and both are alive. The
        // opaque is a number, never dereferenced.
        let error = unsafe { sys::rd_kafka_produceva(self.client.client().native_ptr(), vus.as_ptr(), vus.len()) };
        if error.is_null() {
            return Ok(()); // the record owns the headers now
        }
        if !list.is_null() {
            // SAFETY: produceva takes ownership of VTYPE_HEADERS on success only (rdkafka.h); this is the failure path, and
            // `list` is not used after this.
            unsafe { sys::rd_kafka_headers_destroy(list) };
        }
        Err(take_error(error))
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `rd_kafka_topic_new` in `new` and this is the only place that gives it back; the
        // client outlives it, because the field that holds it is dropped after this.
        unsafe { sys::rd_kafka_topic_destroy(self.topic.as_ptr()) };
    }
}

impl std::fmt::Debug for TopicHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TopicHandle")
    }
}

/// A header list, owned by the caller.
fn new_headers<'a>(
    headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<*mut sys::rd_kafka_headers_t, RDKafkaErrorCode> {
    // SAFETY: plain constructor; it never returns null (librdkafka aborts when memory is out).
    let list = unsafe { sys::rd_kafka_headers_new(headers.len()) };
    for (name, value) in headers {
        // SAFETY: `list` is alive and ours alone. Name and value are borrowed bytes with their true length, copied by the
        // call; a null value pointer is Kafka's null header value.
        let code = unsafe {
            sys::rd_kafka_header_add(
                list,
                name.as_ptr().cast(),
                name.len() as isize,
                value.map_or(ptr::null(), |value| value.as_ptr().cast()),
                value.map_or(0, |value| value.len() as isize),
            )
        };
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            // SAFETY: `list` is ours and not used after this.
            unsafe { sys::rd_kafka_headers_destroy(list) };
            return Err(code.into());
        }
    }
    Ok(list)
}

/// Reads and frees an error object.
fn take_error(error: *mut sys::rd_kafka_error_t) -> RDKafkaErrorCode {
    // SAFETY: `error` is a live error object that a librdkafka call has just handed to us; it is read, then freed exactly once.
    unsafe {
        let code = sys::rd_kafka_error_code(error);
        sys::rd_kafka_error_destroy(error);
        code.into()
    }
}

/// Suspends linger.ms and waits until every record has been reported or the time is over; whether all have.
///
/// With delivery reports as events the native call only raises a flag, wakes the broker threads and waits for a condition:
/// it serves nothing itself, so it may run beside the thread that does.
pub(crate) fn flush(client: &Client, timeout: Duration) -> bool {
    // SAFETY: the client pointer is valid while `client` is; rd_kafka_flush is thread-safe.
    let code = unsafe { sys::rd_kafka_flush(client.client().native_ptr(), millis(timeout)) };
    code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Makes the client fail for good, as a broker's answer could.
#[cfg(test)]
pub(crate) fn kill(client: &Client) {
    let code = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    // SAFETY: the client pointer is valid while `client` is; the text is NUL-terminated and copied.
    unsafe { sys::rd_kafka_test_fatal_error(client.client().native_ptr(), code, c"killed by a test".as_ptr()) };
}

/// Whether the cluster has a controller to send administrative requests to; librdkafka would wait in vain for one. (The mock
/// cluster names a broker that does not exist.)
pub(crate) fn has_controller<C: ClientContext>(client: &AnyClient<C>, metadata: &Metadata) -> bool {
    // SAFETY: the client pointer is valid while `client` is; with no time-out the call only reads what is cached.
    let controller = unsafe { sys::rd_kafka_controllerid(client.native_ptr(), 0) };
    metadata.brokers().iter().any(|broker| broker.id() == controller)
}

/// The answer of a cluster without a controller.
pub(crate) fn no_controller() -> Refused {
    Refused { code: RDKafkaErrorCode::NotController, message: "the cluster has no controller".to_owned() }
}

/// Creates topics by one request and waits for the answer: one for each of them, or an error for all.
pub(crate) fn create_topics<C: ClientContext>(
    client: &AnyClient<C>,
    topics: &[NewTopic<'_>],
    timeout: Duration,
) -> Result<HashMap<String, Result<(), Refused>>, Refused> {
    let mut answers = HashMap::with_capacity(topics.len());
    let mut natives = Vec::with_capacity(topics.len());
    for topic in topics {
        match native_topic(topic) {
            Ok(native) => natives.push(native),
            Err(refused) => drop(answers.insert(topic.name.to_owned(), Err(refused))),
        }
    }
    if natives.is_empty() {
        return Ok(answers);
    }
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS;
    let event = request(client, op, timeout, |rk, options, queue| {
        // SAFETY: all objects are alive; the array is read during the call, which copies what it needs.
        unsafe { sys::rd_kafka_CreateTopics(rk, natives.as_mut_ptr(), natives.len(), options, queue) };
    });
    for native in natives {
        // SAFETY: made above, freed once, not used after this.
        unsafe { sys::rd_kafka_NewTopic_destroy(native) };
    }
    let event = event?;
    // SAFETY: the event is a CreateTopics result (the queue is private to the one request) and outlives everything read from
    // it here; the array has `count` live elements, whose texts are NUL-terminated and copied.
    unsafe {
        let result = sys::rd_kafka_event_CreateTopics_result(event.0.as_ptr());
        let mut count = 0;
        let topics =
            if result.is_null() { ptr::null_mut() } else { sys::rd_kafka_CreateTopics_result_topics(result, &raw mut count) };
        for at in 0..count {
            let topic = *topics.add(at);
            let answer = match RDKafkaErrorCode::from(sys::rd_kafka_topic_result_error(topic)) {
                RDKafkaErrorCode::NoError => Ok(()),
                code => Err(Refused { code, message: copy_text(sys::rd_kafka_topic_result_error_string(topic)) }),
            };
            answers.insert(copy_text(sys::rd_kafka_topic_result_name(topic)), answer);
        }
    }
    Ok(answers)
}

/// A topic as librdkafka takes it, to be freed by the caller.
fn native_topic(topic: &NewTopic<'_>) -> Result<*mut sys::rd_kafka_NewTopic_t, Refused> {
    let name = c_text(topic.name)?;
    let config =
        topic.config.iter().map(|(key, value)| Ok((c_text(key)?, c_text(value)?))).collect::<Result<Vec<_>, Refused>>()?;
    let mut text = [0 as c_char; 512];
    // SAFETY: the name is NUL-terminated and copied; the error buffer is writable for the length given.
    let native = unsafe {
        sys::rd_kafka_NewTopic_new(name.as_ptr(), topic.partitions, topic.replication_factor, text.as_mut_ptr(), text.len())
    };
    if native.is_null() {
        // SAFETY: on failure librdkafka has written a NUL-terminated text into the buffer.
        let message = unsafe { copy_text(text.as_ptr()) };
        return Err(Refused { code: RDKafkaErrorCode::InvalidArgument, message });
    }
    for (key, value) in &config {
        // SAFETY: `native` is alive; both texts are NUL-terminated and copied.
        unsafe { sys::rd_kafka_NewTopic_set_config(native, key.as_ptr(), value.as_ptr()) };
    }
    Ok(native)
}

/// The settings of some topics, in the order asked; one answer for all of them or an error.
pub(crate) fn describe_topics<C: ClientContext>(
    client: &AnyClient<C>,
    names: &[&str],
    timeout: Duration,
) -> Result<HashMap<String, Described>, Refused> {
    describe(client, sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, names, timeout)
}

/// Reads the settings of one broker.
pub(crate) fn describe_broker<C: ClientContext>(client: &AnyClient<C>, id: i32, timeout: Duration) -> Described {
    let id = id.to_string();
    let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER;
    let no_answer = || Refused { code: RDKafkaErrorCode::Fail, message: "no answer".to_owned() };
    describe(client, kind, &[&id], timeout)?.remove(&id).ok_or_else(no_answer)?
}

fn describe<C: ClientContext>(
    client: &AnyClient<C>,
    kind: sys::rd_kafka_ResourceType_t,
    names: &[&str],
    timeout: Duration,
) -> Result<HashMap<String, Described>, Refused> {
    let names = names.iter().map(|name| c_text(name)).collect::<Result<Vec<_>, _>>()?;
    // SAFETY: each name is NUL-terminated and copied; the objects are freed below, on every path.
    let mut resources: Vec<_> =
        names.iter().map(|name| unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) }).collect();
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
    let event = request(client, op, timeout, |rk, options, queue| {
        // SAFETY: all objects are alive; the array is read during the call, which copies what it needs.
        unsafe { sys::rd_kafka_DescribeConfigs(rk, resources.as_mut_ptr(), resources.len(), options, queue) };
    });
    for resource in resources {
        // SAFETY: made above, freed once, not used after this.
        unsafe { sys::rd_kafka_ConfigResource_destroy(resource) };
    }
    let event = event?;
    let mut described = HashMap::with_capacity(names.len());
    // SAFETY: the event is a DescribeConfigs result (the queue is private to the one request) and outlives everything read
    // from it here; both arrays have as many live elements as their counts say, and every text is NUL-terminated and copied.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(event.0.as_ptr());
        let mut count = 0;
        let list = if result.is_null() {
            ptr::null_mut()
        } else {
            sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count)
        };
        for at in 0..count {
            let resource = *list.add(at);
            let name = copy_text(sys::rd_kafka_ConfigResource_name(resource));
            let code = RDKafkaErrorCode::from(sys::rd_kafka_ConfigResource_error(resource));
            let answer = if code == RDKafkaErrorCode::NoError {
                let mut entries = 0;
                let entry = sys::rd_kafka_ConfigResource_configs(resource, &raw mut entries);
                Ok((0..entries)
                    .map(|at| *entry.add(at))
                    .filter(|&entry| !sys::rd_kafka_ConfigEntry_value(entry).is_null())
                    .map(|entry| {
                        (copy_text(sys::rd_kafka_ConfigEntry_name(entry)), copy_text(sys::rd_kafka_ConfigEntry_value(entry)))
                    })
                    .collect())
            } else {
                Err(Refused { code, message: copy_text(sys::rd_kafka_ConfigResource_error_string(resource)) })
            };
            described.insert(name, answer);
        }
    }
    Ok(described)
}

/// An event that is given back when dropped.
struct Event(NonNull<sys::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event came from `rd_kafka_queue_poll`, belongs to us and is given back once.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// Sends one administrative request with a queue of its own and waits for its result.
fn request<C: ClientContext>(
    client: &AnyClient<C>,
    op: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Event, Refused> {
    let rk = client.native_ptr();
    let mut text = [0 as c_char; 512];
    // SAFETY: `rk` is valid while `client` is. Options and queue are made here, used here and freed here; a result that
    // arrives after the queue was given back is dropped by librdkafka. The error buffer is writable for the length given.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(rk, op);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(timeout), text.as_mut_ptr(), text.len());
        let queue = sys::rd_kafka_queue_new(rk);
        send(rk, options, queue);
        // librdkafka answers by itself when the time is over; the surplus only covers its own delays.
        let event = NonNull::new(sys::rd_kafka_queue_poll(queue, millis(timeout + Duration::from_secs(1)))).map(Event);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_queue_destroy(queue);
        let timed_out = || Refused { code: RDKafkaErrorCode::OperationTimedOut, message: "no answer".to_owned() };
        let event = event.ok_or_else(timed_out)?;
        let code = RDKafkaErrorCode::from(sys::rd_kafka_event_error(event.0.as_ptr()));
        if code != RDKafkaErrorCode::NoError {
            return Err(Refused { code, message: copy_text(sys::rd_kafka_event_error_string(event.0.as_ptr())) });
        }
        Ok(event)
    }
}

/// A copy of a C text; empty for null.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that lives during the call.
unsafe fn copy_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn c_text(text: &str) -> Result<CString, Refused> {
    CString::new(text)
        .map_err(|_| Refused { code: RDKafkaErrorCode::InvalidArgument, message: "a zero byte in a name".to_owned() })
}

fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
