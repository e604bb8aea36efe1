import { Controller, Req, RequestMapping, RequestMethod, Res } from '@nestjs/common';
import { api, type OperationName } from '@rookery/api';
import type { Request, Response } from 'express';
import { ApiBinder, expressPath } from './api.binder.js';

/** One Nest route for each operation of the contract, made by the loop below. */
@Controller()
export class ApiController {
  constructor(private readonly binder: ApiBinder) {}

  handle(name: OperationName, request: Request, response: Response): Promise<void> {
    return this.binder.handle(name, request, response);
  }
}

const prototype = ApiController.prototype as unknown as Record<string, unknown>;
for (const [name, route] of Object.entries(api)) {
  prototype[name] = function (this: ApiController, request: Request, response: Response) {
    return this.handle(name as OperationName, request, response);
  };
  const descriptor = Object.getOwnPropertyDescriptor(prototype, name)!;
  RequestMapping({ path: expressPath(route), method: RequestMethod[route.method] })(
    prototype,
    name,
    descriptor,
  );
  Req()(prototype, name, 0);
  Res()(prototype, name, 1);
}
