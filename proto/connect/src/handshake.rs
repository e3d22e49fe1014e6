//! A proof that both ends know the same secret, before anything else is said on a connection. The secret does not travel,
//! and what is seen of one connection proves nothing on another: each end draws a number that it never draws again, and
//! wants both back under the secret's key (keyed BLAKE3).
//!
//! ```text
//! caller    MAGIC, version, which secret, its number (32 bytes)        ──▶
//!           ◀── 0, the listener's number, code(LISTENER, both numbers)      or why not (1 byte)
//! caller    code(CALLER, both numbers)                                 ──▶
//!           ◀── 0                                                           or why not (1 byte)
//! ```
//!
//! The caller learns first whether the listener knows the secret, so somebody who has taken the address of a head that is
//! away gets no order through, and no proof to show to another. What follows is in clear text and unprotected: whoever can
//! change packets on the way can take the connection over. Only TLS mends that.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::random;
use crate::secret::{Authority, Secret};

/// What a greeting begins with: no request of HTTP does, nor TLS.
const MAGIC: [u8; 3] = [0x8d, b'M', b'S'];
/// The version of what is written here.
const VERSION: u8 = 1;

const GREETING_BYTES: usize = MAGIC.len() + 2 + 32;
const CODE_BYTES: usize = blake3::OUT_LEN;

/// Different for the two ends, so that a code cannot be sent back to whom it came from.
const LISTENER: &[u8] = b"listener";
const CALLER: &[u8] = b"caller";

const ACCEPTED: u8 = 0;
const WRONG_TOKEN: u8 = 1;
const NOT_TAKEN: u8 = 2;
const OTHER_VERSION: u8 = 3;

/// Why two ends do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// They do not know the same token.
    #[error(
        "the {} here is not the one of the cluster there; a cluster that was made anew has a new one", .0.token_name()
    )]
    WrongToken(Authority),
    /// The listener takes another kind of callers.
    #[error("no caller with the {} is taken there; is it the address of another part?", .0.token_name())]
    NotTaken(Authority),
    /// The other end is of another version, or not of Millstream at all.
    #[error(
        "what listens there is no head of this version: an ingress, a dashboard or something else; `cluster up` prints the address \
         to give as `control`"
    )]
    OtherVersion,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The ends do not belong together.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Whether the first byte of a connection begins a greeting.
pub(crate) fn begins_with(first: u8) -> bool {
    first == MAGIC[0]
}

/// The caller's side.
///
/// # Errors
/// [`Error`] when the listener does not prove that it knows the secret, or does not take the caller's proof.
pub async fn call<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, secret: &Secret) -> Result<(), Error> {
    let authority = secret.authority();
    let mine = random::nonce();
    let mut greeting = Vec::with_capacity(GREETING_BYTES);
    greeting.extend(MAGIC);
    greeting.extend([VERSION, authority.code()]);
    greeting.extend(mine);
    stream.write_all(&greeting).await?;
    check(stream, authority).await?;
    let mut theirs = [0; 32];
    let mut code = [0; CODE_BYTES];
    stream.read_exact(&mut theirs).await?;
    stream.read_exact(&mut code).await?;
    // `blake3::Hash` compares in the same time whatever differs.
    if secret.code_of(&[LISTENER, &mine, &theirs]) != code {
        return Err(Refusal::WrongToken(authority).into());
    }
    stream.write_all(secret.code_of(&[CALLER, &mine, &theirs]).as_bytes()).await?;
    check(stream, authority).await
}

/// Reads whether the listener goes on.
async fn check<S: AsyncRead + Unpin>(stream: &mut S, authority: Authority) -> Result<(), Error> {
    let answer = match stream.read_u8().await {
        Ok(answer) => answer,
        // What expects HTTP reads a greeting as a broken request, and hangs up.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => OTHER_VERSION,
        Err(error) => return Err(error.into()),
    };
    match answer {
        ACCEPTED => Ok(()),
        WRONG_TOKEN => Err(Refusal::WrongToken(authority).into()),
        NOT_TAKEN => Err(Refusal::NotTaken(authority).into()),
        _ => Err(Refusal::OtherVersion.into()),
    }
}

/// The listener's side: gives what the caller has proved to be.
///
/// # Errors
/// [`Error`] when the caller proves nothing; it has been told why by then.
pub async fn listen<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    secrets: &[Secret],
) -> Result<Authority, Error> {
    let mut greeting = [0; GREETING_BYTES];
    stream.read_exact(&mut greeting).await?;
    let Some([VERSION, authority, theirs @ ..]) = greeting.strip_prefix(&MAGIC) else {
        return refuse(stream, OTHER_VERSION, Refusal::OtherVersion).await;
    };
    let Some(authority) = Authority::from_code(*authority) else {
        return refuse(stream, OTHER_VERSION, Refusal::OtherVersion).await;
    };
    let Some(secret) = secrets.iter().find(|secret| secret.authority() == authority) else {
        return refuse(stream, NOT_TAKEN, Refusal::NotTaken(authority)).await;
    };
    let mine = random::nonce();
    let mut challenge = Vec::with_capacity(1 + mine.len() + CODE_BYTES);
    challenge.push(ACCEPTED);
    challenge.extend(mine);
    challenge.extend(secret.code_of(&[LISTENER, theirs, &mine]).as_bytes());
    stream.write_all(&challenge).await?;
    let mut code = [0; CODE_BYTES];
    stream.read_exact(&mut code).await?;
    if secret.code_of(&[CALLER, theirs, &mine]) != code {
        return refuse(stream, WRONG_TOKEN, Refusal::WrongToken(authority)).await;
    }
    stream.write_u8(ACCEPTED).await?;
    Ok(authority)
}

async fn refuse<S: AsyncWrite + Unpin>(
    stream: &mut S,
    code: u8,
    refusal: Refusal,
) -> Result<Authority, Error> {
    stream.write_u8(code).await?;
    Err(refusal.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn member(token: &str) -> Secret {
        Secret::new(Authority::Member, token)
    }

    /// What caller and listener come to.
    async fn meet(caller: &Secret, listener: &[Secret]) -> (Result<(), Error>, Result<Authority, Error>) {
        let (mut here, mut there) = duplex(1024);
        tokio::join!(async move { call(&mut here, caller).await }, async move {
            listen(&mut there, listener).await
        })
    }

    fn refusal<T>(result: Result<T, Error>) -> Option<Refusal> {
        result.err().and_then(|error| match error {
            Error::Refused(refusal) => Some(refusal),
            Error::Io(_) => None,
        })
    }

    #[tokio::test]
    async fn those_who_know_the_same_secret_meet() {
        let secrets = [member("join"), Secret::new(Authority::Admin, "admin")];
        for secret in &secrets {
            let (caller, listener) = meet(secret, &secrets).await;
            caller.unwrap();
            assert_eq!(listener.unwrap(), secret.authority());
        }
    }

    #[tokio::test]
    async fn another_secret_is_found_out_by_the_caller_and_never_proved() {
        let (caller, listener) = meet(&member("join"), &[member("other")]).await;
        assert_eq!(refusal(caller), Some(Refusal::WrongToken(Authority::Member)));
        assert!(matches!(listener, Err(Error::Io(_))), "the caller has hung up");
        // The same text as another kind of secret is another secret.
        let (caller, _) = meet(&Secret::new(Authority::Admin, "join"), &[member("join")]).await;
        assert_eq!(refusal(caller), Some(Refusal::NotTaken(Authority::Admin)));
    }

    /// Says what it is told, whatever comes.
    async fn say(stream: &mut DuplexStream, bytes: &[u8]) {
        stream.write_all(bytes).await.unwrap();
    }

    #[tokio::test]
    async fn a_caller_that_cannot_answer_the_challenge_is_refused() {
        let (mut here, mut there) = duplex(1024);
        let secrets = [member("join")];
        let caller = async {
            say(&mut here, &[&MAGIC[..], &[VERSION, 1], &[7; 32]].concat()).await;
            let mut challenge = [0; 1 + 32 + CODE_BYTES];
            here.read_exact(&mut challenge).await.unwrap();
            // The listener's own code is not the caller's.
            say(&mut here, &challenge[33..]).await;
            here.read_u8().await.unwrap()
        };
        let (answer, listener) = tokio::join!(caller, listen(&mut there, &secrets));
        assert_eq!((answer, refusal(listener)), (WRONG_TOKEN, Some(Refusal::WrongToken(Authority::Member))));
    }

    #[tokio::test]
    async fn other_versions_and_other_programs_are_told_apart_from_wrong_tokens() {
        for greeting in [
            [&MAGIC[..], &[VERSION + 1, 1], &[7; 32]].concat(),
            [&MAGIC[..], &[VERSION, 9], &[7; 32]].concat(),
            vec![b'x'; GREETING_BYTES],
        ] {
            let (mut here, mut there) = duplex(1024);
            say(&mut here, &greeting).await;
            let refused = listen(&mut there, &[member("join")]).await;
            assert_eq!(refusal(refused), Some(Refusal::OtherVersion));
            assert_eq!(here.read_u8().await.unwrap(), OTHER_VERSION);
        }
        let (mut here, mut there) = duplex(1024);
        say(&mut there, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert_eq!(refusal(call(&mut here, &member("join")).await), Some(Refusal::OtherVersion));
        let (mut here, there) = duplex(1024);
        drop(there);
        assert!(call(&mut here, &member("join")).await.is_err());
    }

    #[tokio::test]
    async fn no_two_handshakes_look_alike() {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let (mut here, mut there) = duplex(1024);
            let secret = member("join");
            let greeting = async {
                let mut greeting = [0; GREETING_BYTES];
                there.read_exact(&mut greeting).await.unwrap();
                greeting
            };
            let greeting = tokio::select! {
                greeting = greeting => greeting,
                _ = call(&mut here, &secret) => unreachable!("nobody answers"),
            };
            seen.push(greeting);
        }
        assert_ne!(seen[0], seen[1]);
    }
}
