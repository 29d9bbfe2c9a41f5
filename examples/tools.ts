/** Tools of the example agents. */
import { z } from "zod";
import { defineTool } from "../src/actors/define-tool.ts";

/** Stands in for the books of a company; a real tool would ask a service, with `idempotencyKey` where it changes things. */
const INVOICES = [
  { id: "INV-1001", customer: "Ada Byron", amount: 49, currency: "EUR", status: "paid", charges: 1 },
  { id: "INV-1002", customer: "Grace Hopper", amount: 49, currency: "EUR", status: "paid", charges: 2 },
  { id: "INV-1003", customer: "Alan Turing", amount: 120, currency: "EUR", status: "open", charges: 0 },
];

export const lookup_invoice = defineTool({
  name: "lookup_invoice",
  description: "Looks up an invoice by its number: customer, amount, status, and how often it was charged.",
  parameters: z.object({
    number: z
      .string()
      .regex(/^INV-\d{4}$/)
      .describe("The invoice's number, such as INV-1002"),
  }),
  timeoutMs: 5_000,
  execute({ number }, { logger }) {
    logger.debug({ number }, "looking up an invoice");
    return INVOICES.find(({ id }) => id === number) ?? { error: `There is no invoice ${number}.` };
  },
});
