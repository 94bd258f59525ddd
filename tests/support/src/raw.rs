//! An AMQP client that publishes properties as raw bytes, since client libraries refuse to write
//! what a hostile or broken one may.
//!
//! It knows just enough of AMQP 0-9-1 to log in as guest, publish, and wait for the confirm.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bits of the property flags (AMQP 0-9-1, class basic).
pub mod flag {
    /// `headers`, a table.
    pub const HEADERS: u16 = 1 << 13;
    /// `delivery_mode`, an octet.
    pub const DELIVERY_MODE: u16 = 1 << 12;
    /// `correlation_id`, a short string.
    pub const CORRELATION_ID: u16 = 1 << 10;
    /// `reply_to`, a short string.
    pub const REPLY_TO: u16 = 1 << 9;
    /// `message_id`, a short string.
    pub const MESSAGE_ID: u16 = 1 << 7;
    /// `type`, a short string.
    pub const TYPE: u16 = 1 << 5;
}

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_MAX: u32 = 131_072;

/// A connection with one channel in confirm mode.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Logs in as guest on the default virtual host.
    ///
    /// # Errors
    /// When the broker does not let us.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let mut raw = Self {
            stream: TcpStream::connect(address).await?,
        };
        raw.stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        raw.expect(10, 10).await?;
        let mut start_ok = vec![0, 0, 0, 0];
        start_ok.extend(short(b"PLAIN"));
        start_ok.extend(long(b"\0guest\0guest"));
        start_ok.extend(short(b"en_US"));
        raw.method(0, 10, 11, &start_ok).await?;
        raw.expect(10, 30).await?;
        let mut tune_ok = vec![0, 10];
        tune_ok.extend(FRAME_MAX.to_be_bytes());
        // No heartbeats: nobody here would send them.
        tune_ok.extend([0, 0]);
        raw.method(0, 10, 31, &tune_ok).await?;
        let mut open = short(b"/");
        open.extend([0, 0]);
        raw.method(0, 10, 40, &open).await?;
        raw.expect(10, 41).await?;
        raw.method(1, 20, 10, &[0]).await?;
        raw.expect(20, 11).await?;
        raw.method(1, 85, 10, &[0]).await?;
        raw.expect(85, 11).await?;
        Ok(raw)
    }

    /// Publishes a message whose property flags and property list are given as they are; returns
    /// when the broker has confirmed it.
    ///
    /// # Errors
    /// When the broker closes the connection or the channel instead.
    pub async fn publish(
        &mut self,
        exchange: &str,
        routing_key: &[u8],
        flags: u16,
        properties: &[u8],
        body: &[u8],
    ) -> Result<()> {
        let mut publish = vec![0, 0];
        publish.extend(short(exchange.as_bytes()));
        publish.extend(short(routing_key));
        publish.push(0);
        self.method(1, 60, 40, &publish).await?;
        let mut header = vec![0, 60, 0, 0];
        header.extend((body.len() as u64).to_be_bytes());
        header.extend(flags.to_be_bytes());
        header.extend(properties);
        self.frame(HEADER, 1, &header).await?;
        for part in body.chunks(FRAME_MAX as usize - 8) {
            self.frame(BODY, 1, part).await?;
        }
        self.expect(60, 80).await
    }

    async fn method(&mut self, channel: u16, class: u16, id: u16, arguments: &[u8]) -> Result<()> {
        let mut payload = Vec::from(class.to_be_bytes());
        payload.extend(id.to_be_bytes());
        payload.extend(arguments);
        self.frame(METHOD, channel, &payload).await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<()> {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(u32::try_from(payload.len())?.to_be_bytes());
        frame.extend(payload);
        frame.push(0xce);
        Ok(self.stream.write_all(&frame).await?)
    }

    /// Reads one method and sees that it is this one.
    async fn expect(&mut self, class: u16, id: u16) -> Result<()> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await?;
        let [kind, _, _, size @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes(size) as usize + 1];
        self.stream.read_exact(&mut payload).await?;
        ensure!(kind == METHOD, "a frame of kind {kind}");
        let [c0, c1, i0, i1, ..] = payload[..] else {
            bail!("a method frame that is too short");
        };
        let got = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([i0, i1]));
        ensure!(
            got == (class, id),
            "the broker says {got:?} instead of {:?}: {}",
            (class, id),
            String::from_utf8_lossy(&payload)
        );
        Ok(())
    }
}

/// A short string of any bytes, 255 at most.
#[must_use]
pub fn short(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    let mut field = vec![length];
    field.extend(&bytes[..usize::from(length)]);
    field
}

/// A long string, or a table whose entries are given.
#[must_use]
pub fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut field = Vec::from(length.to_be_bytes());
    field.extend(bytes);
    field
}

/// Tables within tables, so many deep.
#[must_use]
pub fn nested_tables(depth: usize) -> Vec<u8> {
    let mut inner = Vec::new();
    for _ in 0..depth {
        let mut entry = vec![1, b'n', b'F'];
        entry.extend(long(&inner));
        inner = entry;
    }
    long(&inner)
}
