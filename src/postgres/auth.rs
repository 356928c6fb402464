//! Proving to the server who we are: trust, peer, password, md5, SCRAM-SHA-256.

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::connection::Connection;
use super::error::Error;
use super::messages::Received;
use crate::secret::Secret;

/// Answers the server's authentication requests until it says AuthenticationOk.
pub(super) async fn authenticate(
    connection: &mut Connection,
    user: &str,
    password: Option<&Secret>,
) -> Result<(), Error> {
    let password = || {
        password
            .map(|password| password.reveal().as_bytes())
            .ok_or_else(|| Error::PasswordMissing { user: user.to_owned() })
    };
    let unsupported =
        |method: &str| Error::UnsupportedAuthentication { user: user.to_owned(), method: method.to_owned() };
    loop {
        let received = connection.message().await?;
        let Received::Other(message) = &received else {
            return Err(connection.unexpected(&received, "an authentication request"));
        };
        match message {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                let password = password()?;
                connection.queue(|output| frontend::password_message(password, output))?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(user.as_bytes(), password()?, body.salt());
                connection.queue(|output| frontend::password_message(hash.as_bytes(), output))?;
            }
            Message::AuthenticationSasl(body) => {
                if !offers_scram(body).map_err(|problem| scram_error(user, &problem))? {
                    return Err(unsupported("SASL without SCRAM-SHA-256"));
                }
                scram(connection, user, password()?).await?;
            }
            Message::AuthenticationGss | Message::AuthenticationGssContinue(_) => {
                return Err(unsupported("GSSAPI"));
            }
            Message::AuthenticationSspi => return Err(unsupported("SSPI")),
            Message::AuthenticationKerberosV5 => return Err(unsupported("Kerberos V5")),
            Message::AuthenticationScmCredential => return Err(unsupported("SCM credentials")),
            _ => return Err(connection.unexpected(&received, "an authentication request")),
        }
    }
}

fn offers_scram(body: &AuthenticationSaslBody) -> std::io::Result<bool> {
    body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256))
}

/// The exchange proves both sides: without the server's own proof (SASLFinal) there is no success.
async fn scram(connection: &mut Connection, user: &str, password: &[u8]) -> Result<(), Error> {
    // "n": no channel binding, because there is no TLS channel to bind to.
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    connection.queue(|output| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), output))?;
    let received = connection.message().await?;
    let Received::Other(Message::AuthenticationSaslContinue(body)) = &received else {
        return Err(connection.unexpected(&received, "AuthenticationSASLContinue"));
    };
    scram.update(body.data()).map_err(|problem| scram_error(user, &problem))?;
    connection.queue(|output| frontend::sasl_response(scram.message(), output))?;
    let received = connection.message().await?;
    let Received::Other(Message::AuthenticationSaslFinal(body)) = &received else {
        return Err(connection.unexpected(&received, "AuthenticationSASLFinal"));
    };
    scram.finish(body.data()).map_err(|problem| scram_error(user, &problem))
}

fn scram_error(user: &str, problem: &std::io::Error) -> Error {
    Error::Scram { user: user.to_owned(), problem: problem.to_string() }
}
