//! A plugin whose configuration explains nothing and accepts anything.

use hookbus_core::{Address, Sink, SinkContext, SinkError, SinkPlugin, sink::AddressKey, sink_fn};
use hookbus_testkit::{Fixture, Observed, Skip, address, async_trait, cases::config};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::assert_caught;

struct Sloppy;

#[derive(Debug, Deserialize, JsonSchema)]
struct SloppyConfig {
    #[serde(rename = "keep")]
    _keep: Option<u32>,
}

impl SinkPlugin for Sloppy {
    const TYPE: &'static str = "sloppy";
    const ADDRESS: &'static [AddressKey] = &[];
    type Config = SloppyConfig;

    async fn connect(_: SloppyConfig, _: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(sink_fn(|_| async { Ok(()) })))
    }
}

#[async_trait]
impl Fixture for Sloppy {
    type Plugin = Self;

    async fn start() -> Result<Self, Skip> {
        Ok(Self)
    }

    fn config(&self) -> String {
        String::new()
    }

    async fn address(&self, _: usize) -> Address {
        address::<Self>(&[])
    }

    async fn read(&self, _: &Address) -> Vec<Observed> {
        Vec::new()
    }
}

#[tokio::test]
async fn accepting_unknown_keys() {
    assert_caught(
        tokio::spawn(config::an_unknown_key_is_told_its_place::<Sloppy>()),
        "`keepx` does not exist",
    )
    .await;
    assert_caught(tokio::spawn(config::every_key_is_documented::<Sloppy>()), "accepts unknown keys").await;
}
