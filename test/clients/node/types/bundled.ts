// A program that has the module in its bundle, and another session whose endpoints are elsewhere.
import { Session, session, type Device, type SessionInfo } from "../../../../sessionhttp/session.js";

export const staff = new Session("/support/");
export const who: Promise<SessionInfo | null> = session.info();
export const devices: Promise<Device[] | null> = session.devices();
// @ts-expect-error: where the endpoints are has to be said
new Session();
