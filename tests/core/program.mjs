// What a test has done in Node.
import net from "node:net";

export async function phone_home({ host, port }) {
  try {
    return await new Promise((resolve) => {
      const socket = net.connect(port, host, () => resolve({ error: "" }));
      socket.on("error", (error) => resolve({ error: String(error) }));
    });
  } catch (error) {
    return { error: String(error) };
  }
}
